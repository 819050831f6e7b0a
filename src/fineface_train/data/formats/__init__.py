"""Any file, read strictly: CSV, images, videos, archives, pickles."""
