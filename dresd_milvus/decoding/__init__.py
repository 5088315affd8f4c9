"""The decoding loop and what it needs: protocols, draft tree, sampling, scores, step costs, text streams."""
