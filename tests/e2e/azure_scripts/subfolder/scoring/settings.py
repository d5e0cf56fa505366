SUFFIX = " ok"
