#include "ingest/schedule.h"
