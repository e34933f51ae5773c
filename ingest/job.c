#include "ingest/job.h"
