/* Reads cases from standard input, writes what the portable sources make of them. A case is
 *   'R' height width to_height to_width (int32), grey pixels           -> the resized bytes
 *   'J' height width (int32) chroma (double), tensor, features, map (float32)
 *       -> flags accepted (int32), distance, probability (double), then for all points of all and of
 *          each population, in order: decision (int32)
 *   'D' largest (int32)                                                -> 65536 bytes
 */
#include "cxr_edge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void take(void *to, size_t size)
{
    if (fread(to, 1, size, stdin) != size)
        exit(3);
}

static void give(const void *from, size_t size)
{
    if (fwrite(from, 1, size, stdout) != size)
        exit(4);
}

static void resize(void)
{
    int32_t size[4];
    take(size, sizeof size);
    const size_t pixels = (size_t)size[0] * (size_t)size[1];
    const size_t needed = cxr_resize_scratch_bytes(size[0], size[1], size[2], size[3]);
    /* As long as they may be, so that a sanitizer sees one byte too many. */
    uint8_t *grey = malloc(pixels), *out = malloc((size_t)size[2] * (size_t)size[3]);
    void *scratch = malloc(needed);
    if (!needed || !grey || !out || !scratch)
        exit(5);
    take(grey, pixels);
    if (cxr_resize(grey, size[0], size[1], (size_t)size[1], size[2], size[3], out, scratch,
                   needed - 1) != CXR_SCRATCH_TOO_SMALL)
        exit(6);
    if (cxr_resize(grey, size[0], size[1], (size_t)size[1], size[2], size[3], out, scratch, needed))
        exit(7);
    give(out, (size_t)size[2] * (size_t)size[3]);
    free(grey), free(out), free(scratch);
}

static void judge(void)
{
    int32_t size[2], told[2];
    double chroma, distance, probability, *logits;
    take(size, sizeof size);
    take(&chroma, sizeof chroma);
    const size_t pixels = (size_t)cxr_bundle.height * (size_t)cxr_bundle.width;
    const size_t cells =
        (size_t)cxr_bundle.rows * (size_t)cxr_bundle.columns * (size_t)cxr_bundle.units;
    uint8_t *tensor = malloc(pixels);
    float *features = malloc((size_t)cxr_bundle.features * sizeof(float));
    float *map = malloc(cells * sizeof(float));
    logits = malloc((size_t)cxr_bundle.units * sizeof(double));
    if (!tensor || !features || !map || !logits)
        exit(5);
    take(tensor, pixels);
    take(features, (size_t)cxr_bundle.features * sizeof(float));
    take(map, cells * sizeof(float));
    cxr_seen seen;
    int accepted;
    cxr_look(size[0], size[1], chroma, tensor, &seen);
    told[0] = cxr_weigh(&seen, features, &accepted, &distance);
    told[1] = accepted;
    cxr_logits(map, cxr_bundle.offset_tflite, logits);
    probability = cxr_probability(logits, features);
    give(told, sizeof told);
    give(&distance, sizeof distance);
    give(&probability, sizeof probability);
    for (int whose = -1; whose < cxr_bundle.populations; whose++)
        for (int i = 0; i < cxr_bundle.points; i++) {
            const char *name = whose < 0 ? NULL : cxr_bundle.population[whose].name;
            const cxr_point *point = cxr_find_point(cxr_bundle.point[i].name, name);
            const int32_t decision = point ? (int32_t)cxr_decide(point, probability) : -1;
            give(&decision, sizeof decision);
        }
    free(tensor), free(features), free(map), free(logits);
}

int main(void)
{
    for (int kind; (kind = getchar()) != EOF;)
        if (kind == 'R')
            resize();
        else if (kind == 'J')
            judge();
        else if (kind == 'D') {
            int32_t largest;
            take(&largest, sizeof largest);
            for (int value = 0; value <= 65535; value++)
                putchar(value <= largest ? cxr_to_8_bits((uint16_t)value, (uint16_t)largest) : 0);
        } else
            return 2;
    return 0;
}
