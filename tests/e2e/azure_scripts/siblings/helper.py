def number(path):
    with open(path) as file:
        return int(file.read())
