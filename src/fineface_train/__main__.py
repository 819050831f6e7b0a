"""`python -m fineface_train <verb>`, also for `accelerate launch -m fineface_train train ...`."""

import sys

from fineface_train.cli import main

if __name__ == "__main__":
    sys.exit(main())
