"""Which names of azureml are served, module by module, and by what of `batchmesh.sdk`; and what to use for others."""

from __future__ import annotations

_STEPS = {"ParallelRunConfig": "ParallelRunConfig", "ParallelRunStep": "ParallelRunStep"}
_IMAGES = {"DEFAULT_CPU_IMAGE": "DEFAULT_CPU_IMAGE", "DEFAULT_GPU_IMAGE": "DEFAULT_GPU_IMAGE"}
_RUNS = {"PipelineRun": "PipelineRun", "StepRun": "StepRun"}
_PIPELINE = {"Pipeline": "Pipeline", "PipelineData": "PipelineData", **_RUNS}
_BLOB = {"AzureBlobDatastore": "Datastore"}


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


#: Module to its names, each with the name in `batchmesh.sdk`, or "module:name" elsewhere in batchmesh.
SERVED: dict[str, dict[str, str]] = {
    "azureml": {},
    "azureml.core": {
        **_same("ComputeTarget", "Dataset", "Datastore", "Environment", "Experiment", "Model", "Workspace"),
        "VERSION": "batchmesh.version:VERSION",
        "__version__": "batchmesh.version:VERSION",
    },
    "azureml.core.compute": _same("AmlCompute", "ComputeTarget"),
    "azureml.core.compute_target": _same("ComputeTarget", "ComputeTargetException"),
    "azureml.core.conda_dependencies": _same("CondaDependencies"),
    "azureml.core.dataset": _same("Dataset"),
    "azureml.core.datastore": _same("Datastore"),
    "azureml.core.environment": {**_same("CondaDependencies", "Environment"), **_IMAGES},
    "azureml.core.experiment": _same("Experiment"),
    "azureml.core.model": _same("Model"),
    "azureml.core.run": {},
    "azureml.core.runconfig": {**_same("CondaDependencies"), **_IMAGES},
    "azureml.core.workspace": _same("Workspace"),
    "azureml.exceptions": {
        **_same("ComputeTargetException"),
        "ActivityFailedException": "RunFailed",
        "AzureMLException": "batchmesh.errors:BatchmeshError",
        "UserErrorException": "batchmesh.errors:Refused",
    },
    "azureml.data": _same("DataType", "FileDataset", "OutputFileDatasetConfig", "TabularDataset"),
    "azureml.data.abstract_dataset": {"AbstractDataset": "batchmesh.sdk.abstract_dataset:AbstractDataset"},
    "azureml.data.azure_storage_datastore": _BLOB,
    "azureml.data.data_reference": _same("DataReference"),
    "azureml.data.datapath": {"DataPath": "batchmesh.sdk.data_reference:DataPath"},
    "azureml.data.dataset_consumption_config": _same("DatasetConsumptionConfig"),
    "azureml.data.dataset_factory": {
        **_same("DataType"),
        "FileDatasetFactory": "batchmesh.sdk.dataset:FileDatasetFactory",
        "TabularDatasetFactory": "batchmesh.sdk.dataset:TabularDatasetFactory",
    },
    "azureml.data.dataset_type_definitions": _same("PromoteHeadersBehavior"),
    "azureml.data.file_dataset": _same("FileDataset"),
    "azureml.data.output_dataset_config": _same("OutputFileDatasetConfig"),
    "azureml.data.tabular_dataset": _same("TabularDataset"),
    "azureml.pipeline": {},
    "azureml.pipeline.core": _PIPELINE,
    "azureml.pipeline.core.graph": _same("PipelineData"),
    "azureml.pipeline.core.pipeline": _same("Pipeline"),
    "azureml.pipeline.core.run": _RUNS,
    "azureml.pipeline.steps": _STEPS,
    "azureml.contrib": {},
    "azureml.contrib.pipeline": {},
    "azureml.contrib.pipeline.steps": _STEPS,
    "azureml.widgets": _same("RunDetails"),
}

_SCRIPTS = "run the script as a command before or after the pipeline, or make its work the run() of a ParallelRunStep"
_CREDENTIALS = "leave it out: the mesh's config.json says who you are"
#: What to use in the place of a name that is not served; by its last part, or by a module.
INSTEAD = {
    "Run": "use what Experiment.submit gave; Run.get_context() is there in entry scripts",
    "ScriptRunConfig": _SCRIPTS,
    "RunConfiguration": "give the environment to ParallelRunConfig",
    "PythonScriptStep": _SCRIPTS,
    "MpiStep": _SCRIPTS,
    "DataTransferStep": "use datastore.download and datastore.upload",
    "PipelineParameter": "use a variable of the program",
    "PublishedPipeline": "keep the program and submit it again",
    "PipelineEndpoint": "keep the program and submit it again",
    "Schedule": "submit the program from cron",
    "StepSequence": "use step.run_after(other), or the data between the steps",
    "Webservice": "serve the model with a server of models",
    "AksCompute": "use AmlCompute, or agents that join with --compute-target",
    "RemoteCompute": "use AmlCompute, or agents that join with --compute-target",
    "ComputeInstance": "use AmlCompute, or agents that join with --compute-target",
    "OutputTabularDatasetConfig": "use OutputFileDatasetConfig, and read_delimited_files of it",
    "DockerSection": "leave it out: workers run on the nodes themselves",
    "azureml.core.authentication": _CREDENTIALS,
    "azureml.core.webservice": "serve the model with a server of models",
    "azureml.core.image": "serve the model with a server of models",
    "azureml.dataprep": "use Dataset.Tabular, or pandas",
    "azureml.opendatasets": "download the data set and register a datastore",
    "azureml.train": _SCRIPTS,
    "azureml.telemetry": "leave it out: nothing is sent anywhere",
    "azureml._restclient": "use batchmesh.Client",
}
