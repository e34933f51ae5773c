#include "ingest/worker.h"
