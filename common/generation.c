#include "common/generation.h"
