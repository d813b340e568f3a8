"""Files that Pillow reads wrongly or not at all: read correctly here, or refused."""
