"""Programs of others that do a comparable job, as Debian or PyPI ships them."""
