"""The drafters, one a module; `hybrid` is a package."""
