"""Other people's tasks: each format is a module that writes one of its tasks as a folder of ours."""
