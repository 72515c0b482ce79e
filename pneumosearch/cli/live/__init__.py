"""What a person sees on standard error while a command works: live on a terminal, plain lines elsewhere.

Events and callbacks change plain values only. A thread of Rich draws them, `region.REDRAWS` times a second, so that a
training never waits for a drawing.
"""
