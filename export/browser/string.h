/* For a build without a library: see glue.c. */
#include <stddef.h>
void *memset(void *to, int value, size_t count);
int strcmp(const char *a, const char *b);
