"""`fineface <verb>` and `python -m fineface_train <verb>`, also for `accelerate launch -m fineface_train train ...`."""

import sys


def main() -> int:
    """`cli.main`, and the same answer to Ctrl-C while that is imported itself."""
    try:
        from fineface_train import cli
    except KeyboardInterrupt:
        print("fineface: stopped", file=sys.stderr)
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
