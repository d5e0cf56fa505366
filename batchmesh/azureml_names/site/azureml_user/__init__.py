"""What ParallelRunStep puts beside entry scripts."""
