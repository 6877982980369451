"""The tests; a package, so that they share `reference`, `builders` and `planted`."""
