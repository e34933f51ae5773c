#include "ingest/run.h"
