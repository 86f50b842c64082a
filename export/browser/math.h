/* For a build without a library: the browser's own functions. */
double exp(double), log(double), log1p(double), expm1(double);
#define sqrt __builtin_sqrt
