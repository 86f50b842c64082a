/* Screens JPEG and PNG films with a bundle's model.onnx: one small program, no Python.
 *
 *     python -m export c-array BUNDLE --output c
 *     cc -O2 -I c -I examples/embed -o screen examples/embed/screen.c c/cxr_edge.c c/parameters.c \
 *         -ljpeg -lpng -lonnxruntime -lm
 *     ./screen [--point NAME] [--population children|adults] BUNDLE/model.onnx FILE...
 *
 * Prints a JSON object a film with the main fields of a result record. It reproduces the bundle's
 * known answers first and ends with 3 where they are not met. Exit status 1 if a film was not judged.
 *
 * What it leaves to the runtime: DICOM, TIFF and WebP, pictures with transparency, films that EXIF
 * says are turned; it says so of each by name. Its thresholds are one population's or all's: it
 * knows no ages.
 */
#include "cxr_edge.h"
#include "known_answers.h"
#include "model.h"
#include "ort_abi.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jpeglib.h> /* after stdio.h, which it needs and does not include */
#include <png.h>

enum { MOST_BYTES = 64000000, MOST_PIXELS = 64000000, MESSAGE = 200 };

typedef struct {
    uint8_t *grey;
    int height, width;               /* as decoded */
    int stored_height, stored_width; /* as the file has it */
    double chroma;
    const char *code; /* of an error; NULL: there is none */
    char message[MESSAGE];
} film;

static void fail(film *film, const char *code, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(film->message, sizeof film->message, format, values);
    va_end(values);
    film->code = code;
    free(film->grey);
    film->grey = NULL;
}

/* Spread between the primary colours of (Y, Cb, Cr), JFIF 1.02. */
static double spread(int y, int cb, int cr)
{
    double rgb[3] = {y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128),
                     y + 1.772 * (cb - 128)};
    double low = 255, high = 0;
    for (int i = 0; i < 3; i++) {
        rgb[i] = rgb[i] < 0 ? 0 : rgb[i] > 255 ? 255 : rgb[i];
        low = rgb[i] < low ? rgb[i] : low;
        high = rgb[i] > high ? rgb[i] : high;
    }
    return high - low;
}

/* Colour is looked for at some 64 places a side, as the runtime does. */
static int coarse(int height, int width)
{
    const int shorter = height < width ? height : width;
    return shorter / 64 > 1 ? shorter / 64 : 1;
}

/* --- JPEG -------------------------------------------------------------------------------------- */

typedef struct {
    struct jpeg_error_mgr manager;
    jmp_buf out;
    film *film;
    int warned;
} jpeg_errors;

static void jpeg_fails(j_common_ptr decoder)
{
    jpeg_errors *errors = (jpeg_errors *)decoder->err;
    char text[JMSG_LENGTH_MAX];
    errors->manager.format_message(decoder, text);
    fail(errors->film, "corrupt_image", "damaged or truncated JPEG: %.150s", text);
    longjmp(errors->out, 1);
}

/* A decoder goes on after damage and invents the rest; a film must be whole. */
static void jpeg_warns(j_common_ptr decoder, int level)
{
    if (level < 0)
        jpeg_fails(decoder);
}

/* The orientation that EXIF states, 1 for upright. Source: TIFF 6.0, and Exif 2.3, tag 0x0112. */
static int orientation(const uint8_t *data, unsigned length)
{
    if (length < 14 || memcmp(data, "Exif\0\0", 6))
        return 1;
    const uint8_t *tiff = data + 6;
    const unsigned size = length - 6;
    const int big = tiff[0] == 'M';
#define U16(at) (unsigned)(big ? tiff[at] << 8 | tiff[(at) + 1] : tiff[(at) + 1] << 8 | tiff[at])
#define U32(at) (big ? U16(at) << 16 | U16((at) + 2) : U16((at) + 2) << 16 | U16(at))
    const unsigned first = U32(4);
    if (first > size - 2 || size < 10)
        return 1;
    const unsigned count = U16(first);
    for (unsigned i = 0; i < count && first + 2 + 12 * (i + 1) <= size; i++) {
        const unsigned entry = first + 2 + 12 * i;
        if (U16(entry) == 0x0112)
            return (int)U16(entry + 8);
    }
    return 1;
}

static void read_jpeg(const uint8_t *data, size_t bytes, film *film)
{
    struct jpeg_decompress_struct decoder;
    jpeg_errors errors = {.film = film};
    uint8_t *volatile line = NULL;
    decoder.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = jpeg_fails;
    errors.manager.emit_message = jpeg_warns;
    if (setjmp(errors.out)) {
        jpeg_destroy_decompress(&decoder);
        free(line);
        return;
    }
    jpeg_create_decompress(&decoder);
    jpeg_save_markers(&decoder, JPEG_APP0 + 1, 65535);
    jpeg_mem_src(&decoder, data, (unsigned long)bytes);
    jpeg_read_header(&decoder, TRUE);
    const int width = (int)decoder.image_width, height = (int)decoder.image_height;
    const char *refused = NULL;
    if ((int64_t)width * height > MOST_PIXELS || width > CXR_LARGEST_SIDE ||
        height > CXR_LARGEST_SIDE)
        refused = "more pixels than are read here";
    for (jpeg_saved_marker_ptr marker = decoder.marker_list; marker; marker = marker->next)
        if (orientation(marker->data, marker->data_length) > 1)
            refused = "EXIF says that it is turned: save it upright";
    if (decoder.num_components != 1 && decoder.jpeg_color_space != JCS_YCbCr)
        refused = "neither grey nor YCbCr: export greyscale";
    if (refused) {
        fail(film, "unsupported_pixels", "%s", refused);
        jpeg_destroy_decompress(&decoder);
        return;
    }
    /* At 1/2, 1/4 or 1/8 scale while both sides stay as large as the model needs them. */
    const int across = width / CXR_LEAST_WIDTH, down = height / CXR_LEAST_HEIGHT;
    const int most = across < down ? across : down;
    decoder.scale_num = 1;
    decoder.scale_denom = most >= 8 ? 8 : most >= 4 ? 4 : most >= 2 ? 2 : 1;
    const int colour = decoder.num_components > 1;
    decoder.out_color_space = colour ? JCS_YCbCr : JCS_GRAYSCALE;
    jpeg_start_decompress(&decoder);
    film->stored_width = width;
    film->stored_height = height;
    film->width = (int)decoder.output_width;
    film->height = (int)decoder.output_height;
    const size_t stride = decoder.output_width * (colour ? 3 : 1);
    film->grey = malloc((size_t)film->width * (size_t)film->height);
    line = malloc(stride);
    if (!film->grey || !line) {
        fail(film, "image_too_large", "no memory for it");
        jpeg_destroy_decompress(&decoder);
        free(line);
        return;
    }
    const int step = coarse(film->height, film->width);
    double sum = 0;
    long places = 0;
    while (decoder.output_scanline < decoder.output_height) {
        const int y = (int)decoder.output_scanline;
        uint8_t *row = film->grey + (size_t)y * (size_t)film->width;
        JSAMPROW rows[1] = {colour ? line : row};
        jpeg_read_scanlines(&decoder, rows, 1);
        for (int x = 0; colour && x < film->width; x++) {
            row[x] = line[3 * x];
            if (y % step == step / 2 && x % step == step / 2) {
                sum += spread(line[3 * x], line[3 * x + 1], line[3 * x + 2]);
                places++;
            }
        }
    }
    film->chroma = places ? sum / (double)places : 0;
    jpeg_finish_decompress(&decoder);
    jpeg_destroy_decompress(&decoder);
    free(line);
}

/* --- PNG --------------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *at;
    size_t left;
} bytes_left;

static void png_takes(png_structp reader, png_bytep to, size_t count)
{
    bytes_left *source = png_get_io_ptr(reader);
    if (source->left < count)
        png_error(reader, "it ends early");
    memcpy(to, source->at, count);
    source->at += count;
    source->left -= count;
}

static void png_fails(png_structp reader, png_const_charp text)
{
    fail(png_get_error_ptr(reader), "corrupt_image", "damaged or truncated PNG: %.150s", text);
    png_longjmp(reader, 1);
}

static void png_warns(png_structp reader, png_const_charp text)
{
    (void)reader, (void)text; /* of chunks that hold no pixels */
}

static void read_png(const uint8_t *data, size_t bytes, film *film)
{
    png_structp reader = png_create_read_struct(PNG_LIBPNG_VER_STRING, film, png_fails, png_warns);
    png_infop info = reader ? png_create_info_struct(reader) : NULL;
    uint8_t *volatile pixels = NULL;
    uint8_t **volatile rows = NULL;
    if (!info) {
        fail(film, "image_too_large", "no memory for it");
        png_destroy_read_struct(&reader, NULL, NULL);
        return;
    }
    if (setjmp(png_jmpbuf(reader))) {
        png_destroy_read_struct(&reader, &info, NULL);
        free(pixels);
        free((void *)rows);
        return;
    }
    bytes_left source = {data, bytes};
    png_set_read_fn(reader, &source, png_takes);
    png_read_info(reader, info);
    const int width = (int)png_get_image_width(reader, info);
    const int height = (int)png_get_image_height(reader, info);
    const int kind = png_get_color_type(reader, info), depth = png_get_bit_depth(reader, info);
    const char *refused = NULL;
    if ((int64_t)width * height > MOST_PIXELS || width > CXR_LARGEST_SIDE ||
        height > CXR_LARGEST_SIDE)
        refused = "more pixels than are read here";
    if (kind & PNG_COLOR_MASK_ALPHA || png_get_valid(reader, info, PNG_INFO_tRNS))
        refused = "it has transparency: export greyscale without it";
    if (refused) {
        fail(film, "unsupported_pixels", "%s", refused);
        png_destroy_read_struct(&reader, &info, NULL);
        return;
    }
    const int colour = kind != PNG_COLOR_TYPE_GRAY, wide = depth == 16 && !colour;
    if (kind == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(reader);
    else if (depth < 8)
        png_set_expand_gray_1_2_4_to_8(reader);
    if (depth == 16 && colour)
        png_set_strip_16(reader);
    png_set_interlace_handling(reader);
    png_read_update_info(reader, info);
    const size_t stride = png_get_rowbytes(reader, info);
    pixels = malloc(stride * (size_t)height);
    rows = malloc((size_t)height * sizeof *rows);
    film->grey = malloc((size_t)width * (size_t)height);
    if (!pixels || !rows || !film->grey)
        png_error(reader, "no memory for it");
    for (int y = 0; y < height; y++)
        rows[y] = pixels + (size_t)y * stride;
    png_read_image(reader, (png_bytepp)rows);
    png_read_end(reader, NULL);
    film->width = film->stored_width = width;
    film->height = film->stored_height = height;
    const int step = coarse(height, width);
    double sum = 0;
    long places = 0;
    uint16_t largest = 0;
    for (int y = 0; wide && y < height; y++)
        for (int x = 0; x < width; x++) {
            const uint16_t value = (uint16_t)(rows[y][2 * x] << 8 | rows[y][2 * x + 1]);
            largest = value > largest ? value : largest;
        }
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *to = film->grey + (size_t)y * (size_t)width + x;
            const uint8_t *from = rows[y];
            if (wide)
                *to = cxr_to_8_bits((uint16_t)(from[2 * x] << 8 | from[2 * x + 1]), largest);
            else if (!colour)
                *to = from[x];
            else { /* ITU-R 601-2 luma, in 16 bits */
                const int red = from[3 * x], green = from[3 * x + 1], blue = from[3 * x + 2];
                *to = (uint8_t)((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16);
                if (y % step == step / 2 && x % step == step / 2) {
                    const int high = red > green ? red : green, low = red < green ? red : green;
                    sum += (high > blue ? high : blue) - (low < blue ? low : blue);
                    places++;
                }
            }
        }
    film->chroma = places ? sum / (double)places : 0;
    png_destroy_read_struct(&reader, &info, NULL);
    free(pixels);
    free((void *)rows);
}

static film read_film(const char *path)
{
    film film = {0};
    /* Looked at first: a pipe would wait for somebody to write into it, a device has no end. */
    struct stat status;
    FILE *file = !stat(path, &status) && S_ISREG(status.st_mode) ? fopen(path, "rb") : NULL;
    uint8_t *data = NULL;
    long bytes = -1;
    if (file && !fseek(file, 0, SEEK_END))
        bytes = ftell(file);
    if (bytes < 0 || fseek(file, 0, SEEK_SET))
        fail(&film, "unreadable_file", "cannot be read");
    else if (bytes == 0)
        fail(&film, "empty_file", "the file is empty (0 bytes)");
    else if (bytes > MOST_BYTES)
        fail(&film, "file_too_large", "more than %d bytes", MOST_BYTES);
    else if (!(data = malloc((size_t)bytes)))
        fail(&film, "file_too_large", "no memory for it");
    else if (fread(data, 1, (size_t)bytes, file) != (size_t)bytes)
        fail(&film, "unreadable_file", "cannot be read to its end");
    else if (bytes > 3 && !memcmp(data, "\xff\xd8\xff", 3))
        read_jpeg(data, (size_t)bytes, &film);
    else if (bytes > 8 && !memcmp(data, "\x89PNG\r\n\x1a\n", 8))
        read_png(data, (size_t)bytes, &film);
    else
        fail(&film, "unsupported_format", "neither JPEG nor PNG");
    free(data);
    if (file)
        fclose(file);
    return film;
}

/* --- the model --------------------------------------------------------------------------------- */

static const OrtApi *ort;

static void must(OrtStatus *status)
{
    if (status) {
        fprintf(stderr, "ONNX Runtime: %s\n", ort->GetErrorMessage(status));
        exit(2);
    }
}

typedef struct {
    OrtSession *session;
    OrtMemoryInfo *memory;
} network;

static network load(const char *path)
{
    network made;
    OrtEnv *environment;
    OrtSessionOptions *options;
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!ort) {
        fputs("this ONNX Runtime is older than its header\n", stderr);
        exit(2);
    }
    must(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "cxr-edge", &environment));
    must(ort->CreateSessionOptions(&options));
    must(ort->SetIntraOpNumThreads(options, 1));
    must(ort->CreateSession(environment, path, options, &made.session));
    must(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &made.memory));
    return made;
}

/* logits: (units); features: (CXR_FEATURES). */
static void run(const network *network, const uint8_t *tensor, double *logits, float *features)
{
    const int64_t shape[4] = {1, CXR_INPUT_HEIGHT, CXR_INPUT_WIDTH, 1};
    const char *inputs[] = {"image"}, *outputs[] = {"map", "features"};
    OrtValue *pixels = NULL, *given[2] = {NULL, NULL};
    float *values;
    must(ort->CreateTensorWithDataAsOrtValue(network->memory, (void *)tensor,
                                             CXR_INPUT_HEIGHT * CXR_INPUT_WIDTH, shape, 4,
                                             ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &pixels));
    must(ort->Run(network->session, NULL, inputs, (const OrtValue *const *)&pixels, 1, outputs, 2,
                  given));
    must(ort->GetTensorMutableData(given[0], (void **)&values));
    cxr_logits(values, cxr_bundle.offset_onnx, logits);
    must(ort->GetTensorMutableData(given[1], (void **)&values));
    memcpy(features, values, CXR_FEATURES * sizeof *values);
    ort->ReleaseValue(pixels);
    ort->ReleaseValue(given[0]);
    ort->ReleaseValue(given[1]);
}

static int meets_known_answers(const network *network)
{
    double logits[CXR_MAP_UNITS];
    static float features[CXR_FEATURES];
    for (int i = 0; i < CXR_KNOWN_ANSWERS; i++) {
        run(network, cxr_known_tensors[i], logits, features);
        for (int unit = 0; unit < CXR_MAP_UNITS; unit++)
            /* Also where it is no number. */
            if (!(fabs(logits[unit] - cxr_logits_onnxruntime[i][unit]) <=
                  CXR_TOLERANCE_onnxruntime))
                return 0;
    }
    return 1;
}

/* --- answers ----------------------------------------------------------------------------------- */

static void put_string(const char *text)
{
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\u%04x", *text);
        else
            putchar(*text);
    putchar('"');
}

static void put_head(const char *path, const char *status)
{
    fputs("{\"source\": ", stdout);
    put_string(path);
    printf(", \"status\": \"%s\"", status);
}

/* 1 if the film was judged. */
static int screen(const network *network, const cxr_point *point, const char *path)
{
    film film = read_film(path);
    static uint8_t tensor[CXR_INPUT_HEIGHT * CXR_INPUT_WIDTH];
    static float features[CXR_FEATURES];
    const size_t needed = film.code ? 0 : cxr_scratch_bytes(film.height, film.width);
    void *scratch = needed ? malloc(needed) : NULL;
    if (!film.code && (!scratch || cxr_prepare(film.grey, film.height, film.width,
                                               (size_t)film.width, tensor, scratch, needed)))
        fail(&film, "image_too_large", "no memory to resize it");
    free(scratch);
    if (film.code) {
        put_head(path, "error");
        printf(", \"error\": {\"code\": \"%s\", \"message\": ", film.code);
        put_string(film.message);
        puts("}}");
        return 0;
    }
    double logits[CXR_MAP_UNITS], distance;
    int accepted;
    cxr_seen seen;
    cxr_look(film.stored_height, film.stored_width, film.chroma, tensor, &seen);
    run(network, tensor, logits, features);
    const int flags = cxr_weigh(&seen, features, &accepted, &distance);
    free(film.grey);
    put_head(path, accepted ? "ok" : "rejected");
    if (accepted) {
        const double probability = cxr_probability(logits, features);
        const cxr_decision decision = cxr_decide(point, probability);
        printf(", \"probability\": %.8f, \"decision\": \"%s\"", probability,
               decision == CXR_NORMAL      ? "normal"
               : decision == CXR_UNCERTAIN ? "uncertain"
                                           : cxr_bundle.positive);
    }
    printf(", \"operating_point\": \"%s\", \"threshold\": %.6f, \"flags\": [", point->name,
           point->threshold);
    const char *comma = "";
    for (int i = 0; i < CXR_FLAGS; i++)
        if (flags & 1 << i) {
            printf("%s\"%s\"", comma, cxr_flag_name(1 << i));
            comma = ", ";
        }
    printf("], \"ood_score\": %.4f, \"model\": \"%s %s\"}\n", distance, cxr_bundle.name,
           cxr_bundle.version);
    return accepted;
}

int main(int argc, char **argv)
{
    const char *name = cxr_bundle.point[cxr_bundle.default_point].name, *population = NULL;
    int at = 1;
    for (; at + 1 < argc && !strncmp(argv[at], "--", 2); at += 2)
        if (!strcmp(argv[at], "--point"))
            name = argv[at + 1];
        else if (!strcmp(argv[at], "--population"))
            population = argv[at + 1];
        else
            break;
    const cxr_point *point = cxr_find_point(name, population);
    if (at + 1 >= argc || !strncmp(argv[at], "--", 2)) {
        fprintf(stderr, "usage: %s [--point NAME] [--population NAME] model.onnx FILE...\n%s\n",
                argv[0], cxr_bundle.intended_use);
        return 2;
    }
    if (!point) {
        fprintf(stderr, "no operating point %s%s%s; there are", name, population ? " of " : "",
                population ? population : "");
        for (int i = 0; i < cxr_bundle.points; i++)
            fprintf(stderr, " %s", cxr_bundle.point[i].name);
        for (int i = 0; i < cxr_bundle.populations; i++)
            fprintf(stderr, ", of %s", cxr_bundle.population[i].name);
        fputc('\n', stderr);
        return 2;
    }
    const network network = load(argv[at]);
    if (!meets_known_answers(&network)) {
        fputs("the known answers are not met: this library gives wrong scores for this model on "
              "this processor, or the model is another bundle's\n", stderr);
        return 3;
    }
    int judged = 0;
    const int films = argc - at - 1;
    for (int i = at + 1; i < argc; i++) {
        judged += screen(&network, point, argv[i]);
        fflush(stdout);
    }
    return judged == films ? 0 : 1;
}
