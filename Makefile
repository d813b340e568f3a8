# `make study` and `make test` are all a fresh machine with Python 3.11 or later needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Without bytecode every process compiles what it imports anew: a fifth of a second.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: study test check format docs schemas screenshots results figures clean

study: $(INSTALLED)
	$(BIN)/python optimize.py --study sobel3

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --no-progress --quiet --pedantic .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/hadolint deploy/Dockerfile deploy/Dockerfile.gpu
	$(BIN)/yamllint --strict deploy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site is in build/docs; a warning is an error, a link that leads nowhere is a warning.
docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs

schemas: $(INSTALLED)
	for kind in config study space; do $(BIN)/clapp config --schema $$kind > schemas/$$kind.json; done

screenshots: $(INSTALLED)
	$(BIN)/python docs/screenshots.py sobel3 results

# Every study as shipped, or for another time each: make results TIMEOUT=5m. What is published by the
# same command already is left alone, and an interrupted search goes on.
results: $(INSTALLED)
	$(BIN)/python -m benchmarks.results $(if $(TIMEOUT),--timeout $(TIMEOUT)) $(STUDIES)
	$(BIN)/python docs/published.py --figures

# The tables of docs/filters.md and docs/results.md, and the pictures beside them.
figures: $(INSTALLED)
	$(BIN)/python docs/published.py --figures

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@# pip compiles on one core; packages hold templates that are no Python.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@$(BIN)/python -c 'import cv2' || { echo 'OpenCV needs system libraries: apt-get install libgl1 libglib2.0-0'; exit 1; }
	touch $@
