"""Method families: each folder beside `protocol.py` holds one way to make faces from a prompt and AUs."""
