"""Takes a table, adds a column, and gives it back."""

import pandas as pd


def run(input_data: pd.DataFrame) -> pd.DataFrame:
    result = input_data.copy()
    result["area"] = result.width * result.height
    result["name"] = result["name"].str.title()
    return result[["name", "area"]]
