#include "common/brick.h"
