"""Methods: frozen dataclasses of three pure functions, one file each."""
