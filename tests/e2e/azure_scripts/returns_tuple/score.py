"""Gives a tuple of dictionaries."""


def init():
    pass


def run(batch):
    return tuple({"file": each.rsplit("/", 1)[-1], "value": int(open(each).read())} for each in batch)
