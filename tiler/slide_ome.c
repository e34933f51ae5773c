/* Reader of OME-TIFF: one brightfield image of 8-bit RGB or grey, its levels in SubIFDs.
 * Owns nothing beyond what slide_tiff.c keeps. Source: OME-TIFF specification 6 (TiffData,
 * SubIFDs). */
#include <expat.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "tiler/slide_internal.h"

/* What may stand before the XML: white space, a byte order mark. */
#define BLANKS " \t\r\n\xEF\xBB\xBF"
#define MAX_IMAGES 256u
#define MAX_OBJECTIVES 16u
#define ID_CAP 64u

typedef struct ome_image {
    char name[64];
    char objective_id[ID_CAP];
    double w_px, h_px, size_z, size_c, size_t_; /* Pixels; numbers of XML, not yet believed */
    double samples;                             /* of the first channel; 1 if absent */
    double mpp_x, mpp_y;                        /* 0: unknown */
    double ifd;                                 /* of its first plane; -1: not said */
} ome_image;

typedef struct ome_objective {
    char id[ID_CAP];
    double power;
} ome_objective;

typedef struct ome_doc {
    XML_Parser parser;
    bool root_seen, is_ome, doctype, in_image;
    uint32_t n_images, n_objectives;
    ome_image images[MAX_IMAGES];
    ome_objective objectives[MAX_OBJECTIVES];
} ome_doc;

/* ---- XML ---- */

/* Name without a namespace prefix. */
static const char *local_name(const char *name)
{
    const char *colon = strrchr(name, ':');
    return colon != NULL ? colon + 1 : name;
}

static const char *attribute(const char **attributes, const char *name)
{
    for (size_t i = 0; attributes[i] != NULL; i += 2) {
        if (strcmp(attributes[i], name) == 0)
            return attributes[i + 1];
    }
    return NULL;
}

static double number_attribute(const char **attributes, const char *name, double absent)
{
    const char *text = attribute(attributes, name);
    return text != NULL ? sm_slide_number(text) : absent;
}

static void text_attribute(const char **attributes, const char *name, char *out, size_t cap)
{
    const char *text = attribute(attributes, name);
    (void)snprintf(out, cap, "%s", text != NULL ? text : "");
}

/* Micrometres of one unit; 0 for "pixel" and other things without a length. */
static double unit_um(const char *unit)
{
    static const struct {
        const char *name;
        double um;
    } units[] = {
        {"\xC2\xB5m", 1}, {"\xCE\xBCm", 1}, {"um", 1},  {"nm", 1e-3},
        {"mm", 1e3},      {"cm", 1e4},      {"m", 1e6},
    };
    if (unit == NULL)
        return 1; /* the schema's default */
    for (size_t i = 0; i < SM_COUNT(units); i++) {
        if (strcmp(unit, units[i].name) == 0)
            return units[i].um;
    }
    return 0;
}

static void read_pixels(ome_image *image, const char **attributes)
{
    image->w_px = number_attribute(attributes, "SizeX", 0);
    image->h_px = number_attribute(attributes, "SizeY", 0);
    image->size_z = number_attribute(attributes, "SizeZ", 1);
    image->size_c = number_attribute(attributes, "SizeC", 1);
    image->size_t_ = number_attribute(attributes, "SizeT", 1);
    image->mpp_x = number_attribute(attributes, "PhysicalSizeX", 0) *
                   unit_um(attribute(attributes, "PhysicalSizeXUnit"));
    image->mpp_y = number_attribute(attributes, "PhysicalSizeY", 0) *
                   unit_um(attribute(attributes, "PhysicalSizeYUnit"));
}

static void start_image(ome_doc *doc, const char **attributes)
{
    doc->in_image = doc->n_images < MAX_IMAGES;
    if (!doc->in_image)
        return;
    ome_image *image = &doc->images[doc->n_images++];
    *image = (ome_image){.size_z = 1, .size_c = 1, .size_t_ = 1, .samples = 0, .ifd = -1};
    text_attribute(attributes, "Name", image->name, sizeof image->name);
}

static void in_image(ome_image *image, const char *name, const char **attributes)
{
    if (strcmp(name, "Pixels") == 0)
        read_pixels(image, attributes);
    else if (strcmp(name, "ObjectiveSettings") == 0)
        text_attribute(attributes, "ID", image->objective_id, sizeof image->objective_id);
    else if (strcmp(name, "Channel") == 0 && image->samples <= 0)
        image->samples = number_attribute(attributes, "SamplesPerPixel", 1);
    else if (strcmp(name, "TiffData") == 0 && image->ifd < 0)
        image->ifd = number_attribute(attributes, "IFD", 0);
}

static void XMLCALL on_start(void *user, const char *qualified, const char **attributes)
{
    ome_doc *doc = user;
    const char *name = local_name(qualified);
    if (!doc->root_seen) {
        doc->root_seen = true;
        doc->is_ome = strcmp(name, "OME") == 0;
        if (!doc->is_ome)
            (void)XML_StopParser(doc->parser, XML_FALSE);
        return;
    }
    if (strcmp(name, "Image") == 0) {
        start_image(doc, attributes);
    } else if (strcmp(name, "Objective") == 0 && doc->n_objectives < MAX_OBJECTIVES) {
        ome_objective *objective = &doc->objectives[doc->n_objectives++];
        text_attribute(attributes, "ID", objective->id, sizeof objective->id);
        objective->power = number_attribute(attributes, "NominalMagnification", 0);
    } else if (doc->in_image) {
        in_image(&doc->images[doc->n_images - 1], name, attributes);
    }
}

static void XMLCALL on_end(void *user, const char *qualified)
{
    ome_doc *doc = user;
    if (strcmp(local_name(qualified), "Image") == 0)
        doc->in_image = false;
}

/* OME-XML has no document type; one could only define entities to blow the text up. */
static void XMLCALL on_doctype(void *user, const char *name, const char *system_id,
                               const char *public_id, int has_subset)
{
    (void)name, (void)system_id, (void)public_id, (void)has_subset;
    ome_doc *doc = user;
    doc->doctype = true;
    (void)XML_StopParser(doc->parser, XML_FALSE);
}

static sm_status parse(const sm_tiff_dir *base, ome_doc *doc, sm_error *err)
{
    const char *text = base->description + strspn(base->description, BLANKS);
    const size_t len = strlen(text);
    if (len > INT32_MAX)
        return sm_fail(err, SM_ERR_LIMIT, "OME-XML of %zu bytes", len);
    doc->parser = XML_ParserCreate(NULL);
    if (doc->parser == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for OME-XML");
    XML_SetUserData(doc->parser, doc);
    XML_SetElementHandler(doc->parser, on_start, on_end);
    XML_SetStartDoctypeDeclHandler(doc->parser, on_doctype);
    sm_status st = SM_OK;
    if (XML_Parse(doc->parser, text, (int)len, 1) == XML_STATUS_ERROR) {
        const enum XML_Error code = XML_GetErrorCode(doc->parser);
        if (doc->doctype)
            st = sm_fail(err, SM_ERR_CORRUPT, "OME-XML with a document type declaration");
        else if (doc->root_seen && !doc->is_ome)
            st = sm_fail(err, SM_ERR_FORMAT, "XML description that is not OME-XML");
        else if (code == XML_ERROR_NO_MEMORY)
            st = sm_fail(err, SM_ERR_NOMEM, "out of memory for OME-XML");
        else
            st = sm_fail(err, SM_ERR_CORRUPT, "OME-XML, line %lu: %s",
                         (unsigned long)XML_GetCurrentLineNumber(doc->parser),
                         XML_ErrorString(code));
    }
    XML_ParserFree(doc->parser);
    doc->parser = NULL;
    return st;
}

/* ---- from images to levels ---- */

static double planes_of(const ome_image *image)
{
    const double samples = image->samples > 0 ? image->samples : 1;
    return image->size_z * image->size_t_ * image->size_c / samples;
}

/* Directory of an image's first plane, in the chain; NULL if the file has none such. */
static const sm_tiff_dir *dir_of(const sm_slide *slide, const ome_doc *doc, uint32_t image)
{
    double ifd = doc->images[image].ifd;
    if (ifd < 0) { /* without TiffData the planes simply follow each other */
        ifd = 0;
        for (uint32_t i = 0; i < image; i++)
            ifd += planes_of(&doc->images[i]);
    }
    if (!(ifd >= 0 && ifd < sm_tiff_chain_count(slide->tiff)))
        return NULL;
    return sm_tiff_dir_at(slide->tiff, (uint32_t)ifd);
}

/* The first image that has SubIFDs, else the first. */
static uint32_t choose_image(const sm_slide *slide, const ome_doc *doc)
{
    for (uint32_t i = 0; i < doc->n_images; i++) {
        const sm_tiff_dir *dir = dir_of(slide, doc, i);
        if (dir != NULL && dir->n_subifds > 0)
            return i;
    }
    return 0;
}

static sm_status check_image(sm_slide *slide, const ome_image *image, const sm_tiff_dir *dir,
                             sm_error *err)
{
    if (dir == NULL)
        return sm_fail(err, SM_ERR_CORRUPT, "OME-XML names a directory the file does not have");
    if (planes_of(image) != 1) {
        slide->refused = true; /* OpenSlide would show one plane of many */
        return sm_fail(
            err, SM_ERR_FORMAT,
            "OME image with SizeZ %.0f, SizeC %.0f, SizeT %.0f and %.0f samples a plane; "
            "only one plane of RGB or grey is read",
            image->size_z, image->size_c, image->size_t_, image->samples > 0 ? image->samples : 1);
    }
    if (image->w_px != dir->w_px || image->h_px != dir->h_px)
        return sm_fail_at(err, SM_ERR_CORRUPT, dir->offset,
                          "OME-XML says %.0fx%.0f pixels, the directory %" PRIu32 "x%" PRIu32,
                          image->w_px, image->h_px, dir->w_px, dir->h_px);
    return SM_OK;
}

/* Its SubIFDs, which may stand in the chain too (our hybrid profile); without any, the reduced
 * images of the chain. */
static uint32_t find_levels(const sm_tiff *tiff, const sm_tiff_dir *base,
                            uint32_t levels[SM_TIFF_MAX_DIRS])
{
    uint32_t n = 0;
    levels[n++] = base->index;
    for (uint32_t k = 0; k < base->n_subifds && n < SM_TIFF_MAX_DIRS; k++) {
        const uint32_t i = sm_tiff_find(tiff, base->subifds[k]);
        if (i != SM_TIFF_SUBIFD && i != base->index)
            levels[n++] = i;
    }
    for (uint32_t i = 0; i < sm_tiff_chain_count(tiff) && base->n_subifds == 0; i++) {
        if (i != base->index && (sm_tiff_dir_at(tiff, i)->subfile & 1) != 0)
            levels[n++] = i;
    }
    return n;
}

static double find_objective(const ome_doc *doc, const ome_image *image)
{
    for (uint32_t i = 0; i < doc->n_objectives; i++) {
        if (image->objective_id[0] != '\0' &&
            strcmp(doc->objectives[i].id, image->objective_id) == 0)
            return doc->objectives[i].power;
    }
    return doc->n_objectives == 1 ? doc->objectives[0].power : 0;
}

/* Other images of the file by their names, as Bio-Formats writes them ("label image"). */
static void find_associated(sm_slide *slide, const ome_doc *doc, uint32_t chosen)
{
    static const struct {
        const char *word, *name;
    } words[] = {
        {"label", "label"},
        {"macro", "macro"},
        {"overview", "macro"},
        {"thumbnail", "thumbnail"},
    };
    for (uint32_t i = 0; i < doc->n_images; i++) {
        const sm_tiff_dir *dir = i != chosen ? dir_of(slide, doc, i) : NULL;
        for (size_t k = 0; k < SM_COUNT(words) && dir != NULL; k++) {
            if (strcasestr(doc->images[i].name, words[k].word) != NULL) {
                sm_slide_tiff_associate(slide, words[k].name, dir);
                break;
            }
        }
    }
}

static sm_status open_image(sm_slide *slide, const ome_doc *doc, sm_error *err)
{
    if (doc->n_images == 0)
        return sm_fail(err, SM_ERR_FORMAT, "OME-XML without an image");
    const uint32_t chosen = choose_image(slide, doc);
    const ome_image *image = &doc->images[chosen];
    const sm_tiff_dir *base = dir_of(slide, doc, chosen);
    sm_status st = check_image(slide, image, base, err);
    if (st != SM_OK)
        return st;
    uint32_t levels[SM_TIFF_MAX_DIRS];
    const uint32_t n = find_levels(slide->tiff, base, levels);
    st = sm_slide_tiff_levels(slide, levels, n, err);
    if (st == SM_ERR_FORMAT && base->index != 0)
        slide->refused = true; /* OpenSlide would show another image */
    if (st != SM_OK)
        return st;
    memcpy(slide->info.vendor, "ome-tiff", sizeof "ome-tiff");
    sm_slide_set_mpp(slide, image->mpp_x, image->mpp_y);
    sm_slide_tiff_mpp(slide, base);
    slide->info.objective = find_objective(doc, image);
    find_associated(slide, doc, chosen);
    sm_slide_tiff_find_named(slide);
    return SM_OK;
}

bool sm_ome_description(const char *description)
{
    description += strspn(description, BLANKS);
    return *description == '<' &&
           (strstr(description, "<OME ") != NULL || strstr(description, "<OME>") != NULL ||
            strstr(description, ":OME ") != NULL);
}

static sm_status ome_open(sm_slide *slide, sm_error *err)
{
    if (slide->tiff == NULL)
        return sm_fail(err, SM_ERR_FORMAT, "not a TIFF");
    const sm_tiff_dir *base = sm_tiff_dir_at(slide->tiff, 0);
    if (!sm_ome_description(base->description))
        return sm_fail(err, SM_ERR_FORMAT, "no OME-XML description");
    ome_doc *doc = sm_calloc(1, sizeof *doc);
    if (doc == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for OME-XML");
    sm_status st = parse(base, doc, err);
    if (st == SM_OK) {
        slide->recognised = true;
        st = open_image(slide, doc, err);
    }
    free(doc);
    return st;
}

const sm_slide_reader sm_reader_ome = {
    .name = "ome-tiff",
    .open = ome_open,
    .associated = sm_slide_tiff_associated,
};
