# The dashboard in a container: slim, without root, for the processor unless told otherwise. docs/deployment.md says how
# to build it, run it, keep its results and put it on the web.
FROM python:3.11-slim

# `cpu`, or a version of torch as pip knows it, such as 2.13.0 for its CUDA build. The builds for the processor lie in an
# index of PyTorch's own: give its address as TORCH_INDEX.
ARG TORCH=cpu
ARG TORCH_INDEX=
ARG TORCH_CPU="torch==2.13.0+cpu --hash=sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /app

COPY requirements.lock ./
RUN pip install --no-deps --require-hashes -r requirements.lock
RUN if [ "$TORCH" = cpu ]; then \
        echo "$TORCH_CPU" > torch.txt && \
        pip install --no-deps --require-hashes ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt; \
    else \
        pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==$TORCH"; \
    fi

COPY app.py ./
COPY .streamlit ./.streamlit
COPY docs/glossary.md ./docs/glossary.md
COPY kis_core ./kis_core
COPY pages ./pages

# the program belongs to root and the user may only read it; results and fetched models go to /data
RUN useradd --uid 1000 --create-home kis && install -d -o kis /data
USER kis
ENV KIS_CACHE=/data/cache HF_HOME=/data/huggingface STREAMLIT_SERVER_ADDRESS=0.0.0.0 STREAMLIT_SERVER_HEADLESS=true
VOLUME /data
EXPOSE 8501
HEALTHCHECK CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/_stcore/health')"]
CMD ["python", "-m", "streamlit", "run", "app.py"]
