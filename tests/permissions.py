"""Commands that obey the permissions of files."""

import os
import shutil

import pytest


def unprivileged() -> list[str]:
    """What has a command obey the permissions of files, as root does not."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip(
            "root may write everywhere, and there is no setpriv: apt install util-linux, or run the tests as another "
            "user"
        )
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
