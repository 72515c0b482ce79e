"""Small helpers without any notion of a training: atomic files, templates, hardware, processes.

Any room may import it. It imports only `errors`.
"""
