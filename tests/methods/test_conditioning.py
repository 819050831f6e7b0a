"""How AUs enter: as text, as tokens, through the adapter; and what "no control" is."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from fineface_train.aus import describe_aus, parse_aus
from fineface_train.cli import main
from fineface_train.compose import load_config
from fineface_train.data.conditioning import NO_CONTROL, ConditioningConfig, Entry, with_au_text
from fineface_train.loop.tracking import read_metrics
from fineface_train.methods.au_diffusion.adapter import adapt
from fineface_train.methods.au_diffusion.conditioning import pipeline_arguments, unet_arguments
from fineface_train.methods.au_diffusion.config import OPTIONS, EncoderConfig, EncoderName, FinetuneConfig, Trained
from fineface_train.methods.au_diffusion.encoders import build_encoder
from fineface_train.verbs.train import train
from tests.conftest import WIDTH, tiny_pipeline

SMALL = [
    "data.toyfacs.disfa_subjects=3",
    "data.toyfacs.disfa_frames=12",
    "data.toyfacs.affectnet_images=60",
    "trainer.batch_size=4",
    "tracking.wandb=false",
]
METHODS = ("sd", "dreambooth", "lora_t", "lora_au", "fineface")


def small(root: Path, base: Path, *changes: str) -> list[str]:
    where = [
        f"method.base.path={base}",
        "method.base.resolution=16",
        f"data.root={root / 'data'}",
        f"run.root={root / 'runs'}",
        "trainer.sample_every=0",
    ]
    prior = (
        ["method.finetune.prior_images=5"]
        if "method=dreambooth" in changes and "method.finetune.prior_weight=0" not in changes
        else []
    )
    return [
        "train",
        *SMALL,
        *where,
        "trainer.steps=3",
        *prior,
        "method.sampling.steps=2",
        "evaluation.after_training=false",
        *changes,
    ]


def test_aus_in_words() -> None:
    aus = parse_aus("AU12=4.2,AU6=2,AU1=0.4")
    assert with_au_text("a man", aus, "{strength} {name}") == "a man, severe lip corner puller, slight cheek raiser"
    assert with_au_text("a man", aus, "{au} at {intensity}") == "a man, AU12 at 4, AU6 at 2"
    assert with_au_text("", aus, "{name}") == "lip corner puller, cheek raiser"
    assert with_au_text("a man", NO_CONTROL, "{name}") == with_au_text("a man", [0.0] * 12, "{name}") == "a man"
    assert describe_aus([9.0] + [0.0] * 11) == "maximum inner brow raiser"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{muscle}", "can hold"),
        ("{0}", "can hold"),
        ("{strength", "can hold"),
        ("{strength}", "does not say which"),
        ("", "does not"),
    ],
)
def test_au_text_that_says_no_au_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConditioningConfig(au_text=text).validate("conditioning")


def test_tokens_take_the_place_of_the_last_ones() -> None:
    unet = tiny_pipeline().unet
    adapt(unet, Entry.token, EncoderConfig(name=EncoderName.per_au_tokens), FinetuneConfig())
    text, aus = torch.randn(2, 64, WIDTH), torch.rand(2, 12) * 5
    changed = unet_arguments(unet, Entry.token, text, aus)["encoder_hidden_states"]
    assert torch.equal(changed[:, :-13], text[:, :-13])
    torch.testing.assert_close(changed[:, -13:], unet.au_encoder(aus))


def test_a_pipeline_is_told_what_training_tells() -> None:
    """The negative is the empty prompt with its own AUs, by default none."""
    pipe, aus = tiny_pipeline(), torch.tensor([parse_aus("AU12=5")])
    words = pipeline_arguments(pipe, ConditioningConfig(enters=Entry.text), ["a man"], aus)
    assert words == {"prompt": ["a man, maximum lip corner puller"], "negative_prompt": [""]}
    adapt(pipe.unet, Entry.token, EncoderConfig(name=EncoderName.mlp), FinetuneConfig(train=Trained.nothing))
    tokens = pipeline_arguments(pipe, ConditioningConfig(enters=Entry.token), ["a man"], aus, negative=aus)
    wanted, without = pipe.encode_prompt(["a man"], pipe.device, 1, True)
    token = pipe.unet.au_encoder(aus)[:, 0]
    for embeds, text in ((tokens["prompt_embeds"], wanted), (tokens["negative_prompt_embeds"], without)):
        assert torch.equal(embeds[:, :-1], text[:, :-1])
        assert torch.equal(embeds[:, -1], token)


@pytest.mark.parametrize("name", list(EncoderName))
def test_no_control_is_zero_for_the_papers_encoders_and_learned_for_ours(name: EncoderName) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name=name, learned_null=True), WIDTH)
    zeros, nothing, aus = torch.zeros(1, 12), torch.tensor([NO_CONTROL]), torch.rand(1, 12) * 5
    assert torch.equal(encoder(zeros), encoder(nothing)) == ("learned_null" not in OPTIONS[name])
    assert encoder(nothing).isfinite().all()
    if name is EncoderName.per_au_tokens:
        assert torch.equal(encoder(nothing), encoder.null[None])
        aus[0, 3] = math.nan  # one AU left open, the others said
        partly = encoder(aus)[0]
        assert torch.equal(partly[3], encoder.null[3])
        assert torch.equal(partly[0], encoder(aus.nan_to_num(1.0))[0, 0])
        encoder(aus).sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_resumes_and_generates(
    method: str, tmp_path: Path, saved_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the same commands; a run that was stopped ends with the same bytes."""
    command = small(tmp_path, saved_base, f"method={method}")
    assert main([*command, "trainer.checkpoint_every=1"]) == 0
    (run,) = (tmp_path / "runs").glob("toyfacs-*")
    tensors = {path.name: load_file(path) for path in (run / "bundle").glob("*.safetensors")}
    assert (method == "sd") == (not tensors)
    assert all(value.isfinite().all() for file in tensors.values() for value in file.values())
    before = {path.name: path.read_bytes() for path in (run / "bundle").iterdir()}
    if method != "sd":
        assert [line["step"] for line in read_metrics(run / "metrics.jsonl")] == [3]
        (run / "finished.json").unlink()
        newest = sorted((run / "state").glob("step_*"))[-1]
        newest.rename(tmp_path / "aside")
        assert main([*command, "trainer.checkpoint_every=1"]) == 0
        assert "going on after step 2" in capsys.readouterr().out
        assert before == {path.name: path.read_bytes() for path in (run / "bundle").iterdir()}
    generate = [
        "generate",
        f"bundle={run / 'bundle'}",
        f"method.base.path={saved_base}",
        "method.base.resolution=16",
        "prompt=a man",
        "method.sampling.steps=2",
    ]
    assert main([*generate, "aus=AU12=5", f"out={tmp_path / 'a'}"]) == 0
    assert main([*generate, f"out={tmp_path / 'b'}"]) == 0
    assert next((tmp_path / "a").iterdir()).read_bytes() != next((tmp_path / "b").iterdir()).read_bytes()
    if method != "fineface":
        assert main([*generate, "scale=0.5", f"out={tmp_path / 'c'}"]) == 2
        assert "no adapter to scale" in capsys.readouterr().err


def test_a_value_that_is_not_used_makes_no_other_run(tmp_path: Path, saved_base: Path) -> None:
    """Such as presets set; the command line is told that nothing reads it."""

    def train_with(*changes: str) -> None:
        train(load_config(small(tmp_path, saved_base, *changes)[1:]))

    for change in ("seed=0", "seed=1", "encoder=none", "labels=none"):
        train_with("method=sd", change)
    assert len(list((tmp_path / "runs").glob("toyfacs-text-nothing-*"))) == 1
    for change in ("encoder=none", "encoder=mlp", "method.finetune.adapter_scale=0.5"):
        train_with("method=lora_t", change)
    assert len(list((tmp_path / "runs").glob("toyfacs-text-lora-*"))) == 1
    assert main(small(tmp_path, saved_base, "method=lora_t", "method.conditioning.au_text='{au}'")) == 0
    assert len(list((tmp_path / "runs").glob("toyfacs-text-lora-*"))) == 2


def test_the_adapters_keys_and_values_may_learn_faster(tmp_path: Path, saved_base: Path) -> None:
    """Adam's first step goes as far as the rate says, for keys and values only; a rate that is not used makes no other
    run."""
    after = {}
    for rate in (1, 2, 3):
        assert (
            main(
                small(
                    tmp_path,
                    saved_base,
                    "trainer.steps=1",
                    f"method.finetune.adapter_rate={rate}",
                    f"run.name=rate{rate}",
                )
            )
            == 0
        )
        (run,) = (tmp_path / "runs").glob(f"rate{rate}-*")
        after[rate] = {
            name: value for file in (run / "bundle").glob("*.safetensors") for name, value in load_file(file).items()
        }
    fast = [name for name in after[1] if "_ip." in name]
    assert {name.split(".")[-2] for name in fast} == {"to_k_ip", "to_v_ip"}
    for name, value in after[1].items():
        once, twice = after[2][name] - value, after[3][name] - value
        assert (name in fast) == bool(once.abs().max() > 0)
        torch.testing.assert_close(twice, 2 * once, atol=1e-6, rtol=1e-3)
    for rate in (1, 2):
        train(
            load_config(
                small(tmp_path, saved_base, "trainer.steps=1", "method=lora_t", f"method.finetune.adapter_rate={rate}")[
                    1:
                ]
            )
        )
    assert len(list((tmp_path / "runs").glob("toyfacs-text-lora-*"))) == 1


def test_text_says_the_labels_as_they_are(tmp_path: Path, saved_base: Path) -> None:
    """Not smoothed, and rounded; hidden ones are not said."""
    from fineface_train.data.contents import image_contents
    from fineface_train.data.crew import Crew
    from fineface_train.data.prepare import prepare
    from fineface_train.loop.accelerator import make_accelerator
    from fineface_train.verbs.train import Given, build_dataset, build_model, open_caches, told_captions

    changes = (
        "method=lora_t",
        "method.conditioning.au_text='{au}'",
        "method.conditioning.au_dropout=0.5",
        "method.conditioning.caption_dropout=0",
    )
    config = load_config(small(tmp_path, saved_base, *changes)[1:])
    table, pipe = prepare(config.data), tiny_pipeline()
    contents = image_contents(table.frame["image"], tmp_path / "index.parquet", progress=False)
    told = told_captions(config, table, pipe)
    inputs = open_caches(config, Given(table, contents, pipe, {"vae": "v", "text_encoder": "t"}, told), Crew())
    dataset = build_dataset(config, table, build_model(config, pipe, make_accelerator(config.trainer)), inputs)
    hidden = []
    for index in range(12):
        example = dataset[index]
        row = table.frame.iloc[int(example.row)]
        hidden.append(bool(example.aus.isnan().all()))
        said = (
            row["caption"]
            if hidden[-1]
            else with_au_text(row["caption"], table.aus()[int(example.row)].tolist(), "{au}")
        )
        if (
            not hidden[-1] and told[int(example.row)].cut
        ):  # its caption is too long for a tokenizer that takes a token for each letter
            said = told[int(example.row)].text
            assert said.endswith(", " + describe_aus(table.aus()[int(example.row)].tolist(), "{au}"))
        ids = pipe.tokenizer(said, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            torch.testing.assert_close(example.text, pipe.text_encoder(ids)[0][0], atol=1e-5, rtol=0)
    assert set(hidden) == {True, False}


def test_the_prior_is_what_the_base_makes(tmp_path: Path, saved_base: Path) -> None:
    """Known by its prompt, beside the examples that every arm sees, and part of the loss."""
    assert main(small(tmp_path, saved_base, "method=dreambooth")) == 0
    assert main(small(tmp_path, saved_base, "method=dreambooth", "method.finetune.prior_prompt=a robot")) == 0
    assert main(small(tmp_path, saved_base, "method=dreambooth", "method.finetune.prior_weight=0")) == 0
    caches = sorted((tmp_path / "data" / "cache").glob("prior-*"))
    assert len(caches) == 2
    assert (
        main(small(tmp_path, saved_base, "method=dreambooth", "method.finetune.prior_images=7")) == 0
    )  # not the five that are there
    assert len(list((tmp_path / "data" / "cache").glob("prior-*"))) == 3
    one, two = (np.load(cache / "mean.npy") for cache in caches)
    assert one.shape == (5, 4, 8, 8)
    assert not np.array_equal(one, two)
    losses = [
        read_metrics(run / "metrics.jsonl")[-1]["loss"]
        for run in sorted((tmp_path / "runs").glob("toyfacs-text-everything-*"))
    ]
    assert len(set(losses)) == 4


def test_a_whole_base_is_not_rounded_before_it_is_trained(tmp_path: Path, saved_base: Path) -> None:
    """In bfloat16 a frozen base is; one that is trained keeps its float32 weights, in training and in the bundle."""
    from diffusers import UNet2DConditionModel

    assert (
        main(
            small(
                tmp_path,
                saved_base,
                "method=dreambooth",
                "trainer.precision=bf16",
                "trainer.learning_rate=1e-12",
                "method.finetune.prior_weight=0",
            )
        )
        == 0
    )
    (bundle,) = (tmp_path / "runs").glob("*/bundle")
    base = UNet2DConditionModel.from_pretrained(saved_base / "unet").state_dict()
    for name, value in load_file(bundle / "unet.safetensors").items():
        torch.testing.assert_close(value, base[name], atol=1e-9, rtol=1e-6)


def test_the_wide_encoder_has_more_parameters_than_tokens_and_keys() -> None:
    """So that what tokens win is not won by their number of parameters: of ToyFACS's base, encoder and live keys
    against the encoder alone."""
    from diffusers import UNet2DConditionModel

    from fineface_train.methods.au_diffusion.adapter import audit, mark_trainable

    counted = {}
    for name in ("fineface_plus", "wide_mlp", "plus_one_token"):
        method = load_config([f"method={name}"]).method
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config("data/toyfacs/base/unet"))
        adapt(unet, method.conditioning.enters, method.encoder, method.finetune)
        mark_trainable(unet)
        counted[name] = {row.part: row.trainable for row in audit(unet, {})}
    assert (
        counted["wide_mlp"]["AU encoder"]
        > counted["fineface_plus"]["AU encoder"] + counted["fineface_plus"]["adapter K"]
    )
    assert counted["plus_one_token"]["AU encoder"] == counted["fineface_plus"]["AU encoder"]


def test_a_look_while_training_changes_nothing_and_stands_once_a_step(tmp_path: Path, saved_base: Path) -> None:
    """The tiny base draws 16 px, the judges read 64: so on the shipped base, two steps."""
    command = [
        "train",
        *SMALL,
        f"data.root={tmp_path / 'data'}",
        "trainer.steps=2",
        "trainer.sample_every=0",
        "method.sampling.steps=1",
        "evaluation.after_training=false",
    ]
    assert main([*command, f"run.root={tmp_path / 'plain'}", "tracking.log_every=1"]) == 0
    assert (
        main(
            [
                *command,
                f"run.root={tmp_path / 'seen'}",
                "tracking.log_every=1",
                "evaluation.every=1",
                "trainer.checkpoint_every=1",
            ]
        )
        == 0
    )
    (plain,), (seen,) = (list((tmp_path / name).glob("toyfacs-*")) for name in ("plain", "seen"))
    assert {path.name: path.read_bytes() for path in (plain / "bundle").iterdir()} == {
        path.name: path.read_bytes() for path in (seen / "bundle").iterdir()
    }
    (seen / "finished.json").unlink()  # as if killed after the last step: it is seen again, not twice
    assert (
        main(
            [
                *command,
                f"run.root={tmp_path / 'seen'}",
                "tracking.log_every=1",
                "evaluation.every=1",
                "trainer.checkpoint_every=1",
            ]
        )
        == 0
    )
    lines = pd.DataFrame(read_metrics(seen / "metrics.jsonl"))
    assert lines["step"].tolist() == [1, 1, 2, 2]
    looks = lines["glance"].dropna().tolist()
    assert len(looks) == 2
    assert all({"au_mse_active", "slope", "clip_i", "leakage"} <= set(look) for look in looks)
