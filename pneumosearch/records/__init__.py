"""Plain values of what is stored: trials, epochs, confirmations, data sets; light to import.

Every room that reads or writes the store may come in.
"""
