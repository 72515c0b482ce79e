"""A study: what a trial trains, who proposes it, who prunes it, who runs it and who resumes it.

Workers, confirmations and the command line come in.
"""
