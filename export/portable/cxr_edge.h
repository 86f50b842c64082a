/* Preparation, quality gate and decision of a cxr-edge bundle, in C99 without allocation.
 *
 *     grey pixels of any size -> cxr_prepare -> tensor -> (your engine) -> map and features
 *     -> cxr_logits -> cxr_probability -> cxr_look, cxr_weigh -> cxr_decide
 *
 * What a bundle says lies in `cxr_bundle` (parameters.c, written by `python -m export c-array`).
 * Nothing here keeps state: all functions may be called from several threads.
 *
 * The tensor is the one that Pillow's bilinear filter with antialiasing gives, byte for byte: rows
 * first, each pass rounded to 8 bits. Its weights are fractions of whole numbers, so that no
 * processor, compiler or rounding mode can change a byte.
 */
#ifndef CXR_EDGE_H
#define CXR_EDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CXR_LARGEST_SIDE 65535 /* of a film, in pixels */

/* A named threshold on a calibrated probability. In [uncertain_from, uncertain_to) it is not sure;
 * without a grey band both are 0. */
typedef struct {
    const char *name;
    double threshold, uncertain_from, uncertain_to;
} cxr_point;

/* Points chosen on people of an age, in years: from the first up to but not including the second. */
typedef struct {
    const char *name;
    double age_from, age_to;
    const cxr_point *points; /* as many, and of the same names, as the bundle's */
} cxr_population;

/* A label that the model judges for itself, in models that tell several. */
typedef struct {
    const char *name;
    double temperature;
    const cxr_point *points;
} cxr_finding;

/* Why a film is not judged, or may be judged wrongly: bits of what cxr_look and cxr_weigh give. */
enum {
    CXR_TOO_SMALL = 1 << 0,
    CXR_EXTREME_ASPECT = 1 << 1,
    CXR_COLOUR = 1 << 2,
    CXR_LOW_CONTRAST = 1 << 3,
    CXR_SATURATED = 1 << 4,
    CXR_INVERTED = 1 << 5,
    CXR_NOT_CHEST_LIKE = 1 << 6,
    CXR_ROTATED = 1 << 7,
    CXR_MIRRORED = 1 << 8,
    CXR_INCOMPLETE = 1 << 9,
    CXR_DEGRADED = 1 << 10,
    CXR_OUT_OF_DISTRIBUTION = 1 << 11 /* alone: a warning, until it is far enough to be refused */
};
#define CXR_FLAGS 12

#define CXR_TEMPLATE_SIDE 16
#define CXR_DETAIL_SIDE 8
#define CXR_DISTANT_VIEW (CXR_TEMPLATE_SIDE * CXR_TEMPLATE_SIDE + CXR_DETAIL_SIDE * CXR_DETAIL_SIDE)
#define CXR_MOST_KINDS 32

/* The quality gate; arrays of 16 bits are IEEE 754 half precision. */
typedef struct {
    int min_side;
    double max_aspect, max_chroma, min_contrast, max_saturated, min_correlation;
    const double *template_; /* (256) */
    int components;
    const float *mean;       /* (features) */
    const uint16_t *basis;   /* (components, features) */
    const double *scales;    /* (components) */
    double residual, limit, refuse_above;
    int kinds;               /* of spoilt films; 0: nothing is known of them */
    const int *flags;        /* (kinds) */
    const uint16_t *weights; /* (1 + kinds, features) */
    const double *biases;    /* (1 + kinds) */
    const double *limits;    /* (kinds) */
    int hidden;              /* units that look at the distant view; 0: none */
    const uint16_t *hidden_weights; /* (hidden, CXR_DISTANT_VIEW) */
    const double *hidden_biases;    /* (hidden) */
    const uint16_t *view_weights;   /* (1 + kinds, hidden) */
} cxr_gate;

typedef struct {
    const char *name, *version, *sha256, *positive, *intended_use;
    int height, width;                  /* of the tensor */
    int rows, columns, units, features; /* of the engine's outputs */
    int softmax;                        /* units exclude each other; else each is for itself */
    double temperature;
    const double *offset_tflite, *offset_onnx; /* (units), of either file; NULL without the file */
    int points, default_point;
    const cxr_point *point; /* (points) */
    int populations;
    const cxr_population *population;
    int findings;
    const cxr_finding *finding;
    const char *site; /* SHA-256 of the site profile that was built in; NULL without one */
    double slope, bias; /* of the corrected log odds: slope * log odds + bias + weights . features */
    const float *weights; /* (features); NULL: none */
    double evidence_floor; /* log odds that normal films reach too: not to be coloured */
    const cxr_gate *gate;  /* NULL: nothing is refused */
} cxr_parameters;

extern const cxr_parameters cxr_bundle;

enum { CXR_OK = 0, CXR_BAD_SIZE = -1, CXR_SCRATCH_TOO_SMALL = -2 };

/* Bytes that cxr_prepare needs beside its input and output; 0 for a size that it does not take. */
size_t cxr_scratch_bytes(int height, int width);

/* grey: (height, width) bytes, rows `stride` bytes apart. tensor: cxr_bundle.height x
 * cxr_bundle.width bytes. scratch: at least cxr_scratch_bytes, aligned for int64_t. */
int cxr_prepare(const uint8_t *grey, int height, int width, size_t stride, uint8_t *tensor,
                void *scratch, size_t scratch_bytes);

/* The same for a tensor of any size, and what it needs. */
int cxr_resize(const uint8_t *grey, int height, int width, size_t stride, int to_height,
               int to_width, uint8_t *out, void *scratch, size_t scratch_bytes);
size_t cxr_resize_scratch_bytes(int height, int width, int to_height, int to_width);

/* What 9- to 16-bit pixels become: the depth is the smallest of 8, 10, 12, 14 and 16 that holds the
 * largest of them, and its range maps linearly, rounded, onto 0 to 255. */
uint8_t cxr_to_8_bits(uint16_t value, uint16_t largest);

/* logits: (units), before temperature, from the float map (rows, columns, units) and the offset of
 * the file that gave it. */
void cxr_logits(const float *map, const double *offset, double *logits);

/* Of any disease, calibrated, and as the site corrects it. features: (features) pooled; they are not
 * looked at where `cxr_bundle.weights` is NULL. */
double cxr_probability(const double *logits, const float *features);

/* (findings), each calibrated, of models that tell several. */
void cxr_finding_probabilities(const double *logits, double *probabilities);

/* What a film alone tells, before the network has seen it. */
typedef struct {
    int flags;
    double view[CXR_DISTANT_VIEW];
} cxr_seen;

/* height, width: of the film as stored. chroma: mean of the largest less the smallest of red, green
 * and blue, 0 to 255; 0 of a grey film. tensor: as cxr_prepare gave it. */
void cxr_look(int height, int width, double chroma, const uint8_t *tensor, cxr_seen *seen);

/* Flags of the film, with what the pooled features add. `accepted`: may it be judged? `distance`:
 * 1 is further from the training films than all but one in 200 held out. */
int cxr_weigh(const cxr_seen *seen, const float *features, int *accepted, double *distance);

/* "too_small", as records have it; NULL for what is no single flag. */
const char *cxr_flag_name(int flag);

typedef enum { CXR_NORMAL, CXR_UNCERTAIN, CXR_POSITIVE } cxr_decision;

cxr_decision cxr_decide(const cxr_point *point, double probability);

/* A point by name, of a population ("children") or of all (NULL); NULL where there is none. */
const cxr_point *cxr_find_point(const char *name, const char *population);

#ifdef __cplusplus
}
#endif
#endif
