"""Who tells AUs and captions: LibreFace, OpenFace, BLIP-2."""
