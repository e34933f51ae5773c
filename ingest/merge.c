#include "ingest/merge.h"
