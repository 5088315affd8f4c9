"""Models by the values of --model: finding, checking, loading, fingerprints, end tokens, ranks."""
