# `make demo` and `make test` are all that a fresh machine with Python 3.11+, Java 17 or 21 and make needs.
# Both install into .venv; what is installed already is not installed again (stamp files).

VENV := .venv
BIN := $(VENV)/bin
VENV35 := .venv-spark35
VENV_LOWEST := .venv-lowest
VENV_XGBOOST_RAY := .venv-xgboost-ray
SPARK := $(shell sed -n 's/^pyspark==//p' constraints.txt)
SPARK35 := $(shell sed -n 's/^pyspark==//p' constraints-spark35.txt)

DEMO_EXTRAS := torch,xgboost-cpu,examples
TEST_EXTRAS := $(DEMO_EXTRAS),tensorflow-cpu,skorch,torchmetrics,dev
HOUSE := constraints.txt pyproject.toml setup.cfg

# How a recipe starts: stop with one line if this machine lacks Python or Java, else $$python is the Python to use.
machine = @python=$$(sh scripts/check_machine.sh $(1) $(2)) &&

.PHONY: help demo test test-full test-spark35 test-lowest test-xgboost-ray jar jvm-matrix wheel lint types docs bench-startup bench-exchange bench-search \
	bench-serving bench-training clean

help:
	@echo 'make demo          flights example: train, compare, search, save, load (under 5 minutes after set-up)'
	@echo 'make test          the tests that CI runs'
	@echo 'make test-full     all tests, the slow ones too'
	@echo 'make test-lowest   the end-to-end tests with the lowest versions that the metadata names'
	@echo 'make test-xgboost-ray  the tests of backend="xgboost-ray", with the versions that it needs'
	@echo 'make test-spark35  the end-to-end tests on Spark $(SPARK35)'
	@echo 'make jar           compile the Scala sources for the installed Spark'
	@echo 'make jvm-matrix    compile them for each supported Spark line'
	@echo 'make wheel         a wheel with the jars of all Spark lines, in dist/'
	@echo 'make lint types    ruff, mypy'
	@echo 'make docs          draw the pictures and write the tables of the documentation again'
	@echo 'make bench-training                     what a fit costs before its first step'
	@echo 'make bench-serving                      one row and 100,000 rows without Spark'
	@echo 'make bench-startup bench-exchange       measured against RayDP, in an environment of its own'
	@echo 'make bench-search  searches, against their training seconds and scikit-learn'
	@echo 'make clean         remove what was built; the environments stay'

demo: $(VENV)/.demo jar
	@$(BIN)/python examples/flights_delay.py

test: $(VENV)/.test jar
	@$(BIN)/python -m pytest -m 'not slow'

test-full: $(VENV)/.test jar
	@$(BIN)/python -m pytest

test-spark35: $(VENV35)/.test
	@$(VENV35)/bin/python -m raydp_ml.build_jar
	@$(VENV35)/bin/python -m pytest -m spark35

test-lowest: $(VENV_LOWEST)/.test
	@$(VENV_LOWEST)/bin/python -m raydp_ml.build_jar
	@$(VENV_LOWEST)/bin/python -m pytest tests/test_end_to_end.py tests/estimators/test_warm_worker.py

test-xgboost-ray: $(VENV_XGBOOST_RAY)/.test
	@$(VENV_XGBOOST_RAY)/bin/python -m raydp_ml.build_jar
	@$(VENV_XGBOOST_RAY)/bin/python -m pytest tests/estimators/test_xgboost_ray.py

jar: $(VENV)/.demo
	@$(BIN)/python -m raydp_ml.build_jar

jvm-matrix: $(VENV)/.demo
	@sh jvm/compile_matrix.sh $(BIN)/python

wheel: $(VENV)/.test
	@sh jvm/compile_matrix.sh $(BIN)/python --package
	@rm -rf build/lib build/bdist.*
	@$(BIN)/python -m build --wheel

lint: $(VENV)/.test
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.test
	@$(BIN)/mypy

bench-startup bench-exchange bench-search bench-serving bench-training: $(VENV)/.demo jar
	@$(BIN)/python benchmarks/$(@:bench-%=%).py

docs: $(VENV)/.demo
	@$(BIN)/python docs/make_pictures.py
	@$(BIN)/python docs/make_settings.py
	@$(BIN)/python docs/make_measured.py

clean:
	@rm -rf build dist out raydp_ml/jars .pytest_cache .mypy_cache .ruff_cache spark-warehouse

$(VENV)/.demo: $(HOUSE)
	$(call machine,$(VENV),$(SPARK)) sh scripts/install.sh "$$python" $(VENV) constraints.txt '$(DEMO_EXTRAS)'
	@touch $@

$(VENV)/.test: $(HOUSE) | $(VENV)/.demo
	$(call machine,$(VENV),$(SPARK)) sh scripts/install.sh "$$python" $(VENV) constraints.txt '$(TEST_EXTRAS)'
	@touch $@ $(VENV)/.demo

$(VENV35)/.test: constraints-spark35.txt pyproject.toml setup.cfg
	$(call machine,$(VENV35),$(SPARK35)) \
	    sh scripts/install.sh "$$python" $(VENV35) constraints-spark35.txt '$(DEMO_EXTRAS),dev,iceberg-jars'
	@touch $@

$(VENV_LOWEST)/.test: constraints-lowest.txt pyproject.toml setup.cfg
	$(call machine,$(VENV_LOWEST),$(SPARK35)) \
	    sh scripts/install.sh "$$python" $(VENV_LOWEST) constraints-lowest.txt '$(DEMO_EXTRAS),dev'
	@touch $@

$(VENV_XGBOOST_RAY)/.test: constraints-xgboost-ray.txt pyproject.toml setup.cfg
	$(call machine,$(VENV_XGBOOST_RAY),$(SPARK)) \
	    sh scripts/install.sh "$$python" $(VENV_XGBOOST_RAY) constraints-xgboost-ray.txt 'torch,xgboost-ray,dev'
	@touch $@
