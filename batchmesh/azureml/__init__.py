"""Programs written against azureml's SDK v1, run over a mesh: `python -m batchmesh.azureml FILE.py [arguments]`.

    FILE.py ──import azureml.core…──▶ finder ──names──▶ batchmesh.sdk ──▶ mesh

Nothing is installed under azureml's names: they are there in that one process alone, also where the real ones are.
Entry scripts need none of this: workers have azureml's names by themselves (batchmesh.azureml_names).
"""
