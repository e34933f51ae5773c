#include "tiler/convert_opts.h"
