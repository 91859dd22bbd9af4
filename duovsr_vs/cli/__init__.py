"""The command line: arguments in, engine and video package called, plain sentences out."""
