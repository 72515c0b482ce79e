"""What a person sees on standard error while a command works: live on a terminal, plain lines elsewhere.

Events and callbacks change plain values only. A thread draws them (`region`), at most ten times a second and for a
two-hundredth of a core, so that a training never waits for a drawing.
"""
