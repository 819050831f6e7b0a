"""Weights of LibreFace's shape with random values, for tests of the plumbing: run by the Python of
scripts/libreface_annotate.py's environment.

$(uv python find --script scripts/libreface_annotate.py) tests/libreface_random_weights.py FOLDER
"""

import sys
from pathlib import Path

import torch
import torchvision
from libreface.AU_Recognition.inference import ConfigObject
from libreface.AU_Recognition.models.resnet18_combine import ResNet18

resnet18 = torchvision.models.resnet18
torchvision.models.resnet18 = lambda weights: resnet18()
torch.manual_seed(0)
model = ResNet18(
    ConfigObject(
        {"fm_distillation": False, "dropout": 0.1, "au_recognition_num_labels": 12, "au_detection_num_labels": 12}
    )
)
for part in (model.classifier, model.classifier_2):
    part[4].weight.data *= 8  # so that other faces get other AUs
path = Path(sys.argv[1]) / "AU_Recognition" / "weights" / "combined_resnet.pt"
path.parent.mkdir(parents=True, exist_ok=True)
torch.save({"model": model.state_dict()}, path)
print(path)
