from .marks import MARK


def shout(word):
    return word.upper() + MARK
