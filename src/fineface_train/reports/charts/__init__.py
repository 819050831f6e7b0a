"""Charts of the pages, drawn by matplotlib as SVG that follows light and dark."""
