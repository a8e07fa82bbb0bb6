def recognises(p):
    return False


def read_files(p, o): ...
