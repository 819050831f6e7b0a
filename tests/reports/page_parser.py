"""A page as the tests read it."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What the tests ask of a page: ids, references, images, links, and whether every element is closed."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: set[str] = set()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert len(self.ids) == len(set(self.ids)), "an id is given twice"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if "id" in values:
            self.ids.append(values["id"] or "")
        if tag == "section" and "id" in values:
            self.sections.add(values["id"] or "")
        if tag != "use":  # it draws what lies in the same picture
            self.references += [
                values[key] or "" for key in ("src", "href", "srcset", "data", "xlink:href") if key in values
            ]
        else:
            assert (values["href"] or "")[1:] in self.ids
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
