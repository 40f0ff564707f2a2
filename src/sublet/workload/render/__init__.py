"""``sublet render``: a scene's frames on strangers' machines, exact and proven."""
