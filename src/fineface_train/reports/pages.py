"""Templates as pages, and files within a page."""

import base64
from typing import Any

import jinja2

from fineface_train.reports.words import compact, interval, number


def render(template: str, **values: Any) -> str:
    """One of the package's templates as a page."""
    loader = jinja2.PackageLoader("fineface_train.reports")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, compact=compact, interval=interval)
    return environment.get_template(template).render(**values)


def csv_uri(text: str) -> str:
    """A CSV as a data URI, which a link offers for download."""
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()
