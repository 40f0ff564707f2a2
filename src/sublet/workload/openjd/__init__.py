"""Jobs of other tools: Open Job Description templates, each step a map."""
