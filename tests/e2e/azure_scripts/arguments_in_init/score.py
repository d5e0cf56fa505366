"""Parses them in init(), into a global, and knows the flags of ParallelRunStep itself."""

import argparse


def init():
    global settings
    parser = argparse.ArgumentParser()
    parser.add_argument("--mini_batch_size", type=int)
    parser.add_argument("--error_threshold", type=int)
    parser.add_argument("--process_count_per_node", type=int)
    parser.add_argument("--logging_level")
    parser.add_argument("--output")
    parser.add_argument("--prefix", default="none")
    parser.add_argument("--flag", action="store_true")
    settings = parser.parse_known_args()[0]


def run(mini_batch):
    assert len(mini_batch) <= settings.mini_batch_size
    assert settings.error_threshold == 0 and settings.process_count_per_node == 1
    return [f"{settings.prefix}:{settings.flag}:{open(each).read().strip()}" for each in mini_batch]
