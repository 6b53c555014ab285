# make demo: from nothing to an animated head.   make test: everything that is checked.
VENV ?= .venv
PY := $(VENV)/bin/python
OUT ?= out/demo

.PHONY: demo test build clean

$(VENV)/.installed: pyproject.toml constraints.txt tools/bootstrap.sh
	VENV=$(VENV) tools/bootstrap.sh

demo: $(VENV)/.installed
	$(VENV)/bin/avatar3d demo -o $(OUT)

test: $(VENV)/.installed
	$(PY) -m pytest

# Rebuilds the compiled module in place, for whoever works on cuda_ext/.
build:
	tools/build_inplace.sh

clean:
	rm -rf build $(VENV) out avatar3d/_C*.so
