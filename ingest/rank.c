#include "ingest/rank.h"
