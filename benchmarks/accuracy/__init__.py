"""Is what the float model knows still there?"""
